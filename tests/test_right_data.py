"Which image belongs to which class: where two readings are possible, they are refused or said, never chosen silently."

import io
import logging
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from mid_nbdev import InputError, find_source
from mid_nbdev.data.archives import sample_part
from mid_nbdev.data.classes import class_numbers
from mid_nbdev.data.images import ImageSource, crop_key, decode, exif_orientation, imagenet_names
from mid_nbdev.data.reading import read_image
from mid_nbdev.data.sources import names_of_classes, read_class_names

NUMBERED = [str(number) for number in range(12)]


def picture(path, size=(8, 8), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)
    return path


def classes(root, names, ending=".png"):
    for name in names:
        picture(root / name / f"photo{ending}")
    return root


def labels_of(source):
    return dict(zip(source.names, source.labels.tolist(), strict=True))


# Which class is which number


def test_numbered_folders_with_two_readings_are_refused_with_both(tmp_path):
    classes(tmp_path, NUMBERED)
    with pytest.raises(InputError, match="folder 2 is class 2; in text order.*it is class 4.*--class-order"):
        find_source(tmp_path, num_classes=12)


def test_a_class_order_decides(tmp_path):
    classes(tmp_path, NUMBERED)
    assert labels_of(find_source(tmp_path, num_classes=12, class_order="number"))["10/photo.png"] == 10
    assert labels_of(find_source(tmp_path, num_classes=12, class_order="text"))["10/photo.png"] == 2
    with pytest.raises(InputError, match="expected number or text"):
        find_source(tmp_path, num_classes=12, class_order="size")


def test_some_numbered_folders_of_many_classes_are_refused_where_the_readings_differ():
    assert class_numbers(["0", "1"], 12) == {"0": 0, "1": 1}
    with pytest.raises(InputError, match="ambiguous"):
        class_numbers(["0", "2"], 12)
    assert class_numbers(["00", "02", "11"], 12) == {"00": 0, "02": 2, "11": 11}


@pytest.mark.parametrize("names", [
    [str(n) for n in range(1, 13)], ["1998", "2003", "980"], ["5", "10", "20"], [str(n) for n in range(0, 120, 10)],
])
def test_one_based_folders_years_and_gaps_need_an_order_or_names(names):
    with pytest.raises(InputError, match="ambiguous"):
        class_numbers(names, len(names))
    by_number = sorted(names, key=int)
    assert class_numbers(names, len(names), class_order="number") == {name: n for n, name in enumerate(by_number)}
    assert class_numbers(names, len(names), class_order="text") == {name: n for n, name in enumerate(sorted(names))}
    assert class_numbers(names, len(names), by_number) == {name: n for n, name in enumerate(by_number)}


def test_where_both_readings_agree_nothing_is_asked():
    assert class_numbers(["2019", "2020", "2021"], 3) == {"2019": 0, "2020": 1, "2021": 2}
    assert class_numbers([str(n) for n in range(10)], 10)["9"] == 9


def test_given_names_decide_in_folders_tables_and_archives(tmp_path):
    names = sorted(NUMBERED)  # as ImageFolder numbers them: 10 is class 2
    classes(tmp_path / "data", NUMBERED)
    assert labels_of(find_source(tmp_path / "data", None, 12, names))["10/photo.png"] == 2
    (tmp_path / "labels.csv").write_text("file,label\n10/photo.png,10\n2/photo.png,2\n")
    called = find_source(tmp_path / "data", tmp_path / "labels.csv", 12, names)
    assert labels_of(called) == {"10/photo.png": 2, "2/photo.png": 4}
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", "")
    assert labels_of(find_source(tmp_path / "data.tar", None, 12, names))["10/photo.png"] == 2
    (tmp_path / "labels.csv").write_text("file,label\n10/photo.png,12\n")
    with pytest.raises(InputError, match="line 2: label '12'.*not one of the class names"):
        find_source(tmp_path / "data", tmp_path / "labels.csv", 12, names)


def test_given_names_decide_in_a_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NUMBERED)})
    content = {"image": [Image.new("RGB", (8, 8))] * 12, "label": list(range(12))}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(tmp_path / "saved")
    assert find_source(tmp_path / "saved", None, 12).labels.tolist() == list(range(12))
    named = find_source(tmp_path / "saved", None, 12, sorted(NUMBERED))
    assert named.labels.tolist() == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]
    strangers = [f"animal {n}" for n in range(12)]  # no name of the dataset's: they are what its numbers are called
    assert find_source(tmp_path / "saved", None, 12, strangers).labels.tolist() == list(range(12))
    with pytest.raises(InputError, match="ambiguous|not one of the 12 given class names"):
        find_source(tmp_path / "saved", None, 12, ["0", *strangers[1:]])


def shuffled(tmp_path, kind):
    "Two images of the classes called 2 and 10, in a table or archive."
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    if kind == "webdataset":
        return shard(tmp_path / "a.tar", {"a.jpg": PIXELS, "a.cls": b"2", "b.jpg": PIXELS, "b.cls": b" 10\n"})
    content = io.BytesIO()
    PIXELS.save(content, "PNG")
    if kind == "parquet":
        pq.write_table(pa.table({"image": [content.getvalue()] * 2, "label": [2, 10]}), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": [PIXELS] * 2, "label": [2, 10]}, features=features)
    table.save_to_disk(tmp_path / "a")
    return tmp_path / "a"


@pytest.mark.parametrize("kind", ["webdataset", "parquet", "dataset"])
def test_given_names_decide_in_tables_and_archives_of_labels(tmp_path, kind):
    data = shuffled(tmp_path, kind)
    assert find_source(data, num_classes=12).labels.tolist() == [2, 10]
    assert find_source(data, None, 12, [f"animal {n}" for n in range(12)]).labels.tolist() == [2, 10]
    assert find_source(data, None, 12, sorted(NUMBERED)).labels.tolist() == [4, 2]  # the classes called 2 and 10
    with pytest.raises(InputError, match="label '10' is not one of the class names"):
        find_source(data, None, 3, ["2", "3", "4"])


def test_labels_in_an_archive_may_be_names(tmp_path):
    data = shard(tmp_path / "a.tar", {"a.jpg": PIXELS, "a.cls": b"dog", "b.jpg": PIXELS, "b.cls": b"cat"})
    assert find_source(data, None, 3, ["cat", "dog", "emu"]).labels.tolist() == [1, 0]
    with pytest.raises(InputError, match="dog' is not a class number from 0 to 2; for class names, give --class-names"):
        find_source(data, None, 3)


def test_an_order_decides_in_a_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["2", "10"])})
    content = {"image": [PIXELS] * 2, "label": [0, 1]}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="--class-order number, --class-order text or --class-names"):
        find_source(tmp_path / "saved", num_classes=12)
    for order, labels in (("number", [2, 10]), ("text", [4, 2])):
        assert find_source(tmp_path / "saved", None, 12, (), order).labels.tolist() == labels


def test_names_and_an_order_that_disagree_are_refused():
    assert class_numbers(NUMBERED, 12, sorted(NUMBERED), "text")["2"] == 4
    with pytest.raises(InputError, match="folder 2 is class 4 by --class-names and class 2 by --class-order number"):
        class_numbers(NUMBERED, 12, sorted(NUMBERED), "number")


def test_a_thousand_classes_of_ones_own_are_called_by_their_folders(tmp_path):
    names = [f"kind {n:03}" for n in range(1000)]
    source = ImageSource(tmp_path, tuple(f"{name}/1.png" for name in names), np.arange(1000))
    assert names_of_classes(source, 1000) == names
    assert names_of_classes(source.take(range(9)), 1000) == imagenet_names()


def test_no_two_classes_have_one_name(tmp_path):
    source = ImageSource(tmp_path, ("0/1.png", "2/1.png"), np.array([0, 4]))  # read in the order of text
    names = names_of_classes(source, 12)
    assert (names[0], names[2], names[4]) == ("0", "class 2", "2") and len(set(names)) == 12


def test_names_kept_by_a_run_leave_numbers_numbers(tmp_path):
    classes(tmp_path, ["cat", "dog"])
    (tmp_path / "labels.csv").write_text("file,label\ncat/photo.png,0\ndog/photo.png,1\n")
    first = find_source(tmp_path, tmp_path / "labels.csv", 3)
    again = find_source(tmp_path, tmp_path / "labels.csv", 3, names_of_classes(first, 3))
    assert names_of_classes(first, 3) == ["cat", "dog", "2"] and labels_of(first) == labels_of(again)


def test_names_that_do_not_cover_the_folders_are_refused(tmp_path):
    classes(tmp_path, ["cat", "dog"])
    with pytest.raises(InputError, match="class folder 'dog' is not one of the 2 given class names"):
        find_source(tmp_path, None, 2, ["cat", "wolf"])


@pytest.mark.parametrize("content", ["\ufeffdog\ncat\n", "dog \r\n cat\r\n"])
def test_files_of_class_names_as_editors_write_them(tmp_path, content):
    (tmp_path / "names.txt").write_bytes(content.encode())
    assert read_class_names(tmp_path / "names.txt", 2) == ["dog", "cat"]


def test_names_read_from_a_folder_follow_the_same_rule(tmp_path):
    classes(tmp_path, NUMBERED)
    with pytest.raises(InputError, match="ambiguous"):
        read_class_names(tmp_path, 12)
    assert read_class_names(tmp_path, 12, "number") == NUMBERED
    source = find_source(tmp_path, None, 12, class_order="text")
    assert names_of_classes(source, 12) == read_class_names(tmp_path, 12, "text") == sorted(NUMBERED)


# Which folder is the class


def test_the_first_level_is_the_class_as_in_torchvision(tmp_path, caplog):
    from torchvision.datasets import ImageFolder

    for name in ("cat/young/a.png", "cat/b.png", "dog/images/c.png", "emu/images/old/d.png"):
        picture(tmp_path / name)
    with caplog.at_level(logging.INFO, "mid_nbdev"):
        ours = labels_of(find_source(tmp_path, num_classes=3))
    theirs = {str(path).removeprefix(f"{tmp_path}/"): label for path, label in ImageFolder(tmp_path).samples}
    assert ours == theirs and "first level" in caplog.text


def test_tiny_imagenet_as_it_unpacks(tmp_path):
    for synset in ("n01440764", "n01484850"):
        picture(tmp_path / "train" / synset / "images" / f"{synset}_0.JPEG")
    assert labels_of(find_source(tmp_path / "train", num_classes=1000)) == {
        "n01440764/images/n01440764_0.JPEG": 0, "n01484850/images/n01484850_0.JPEG": 2}


@pytest.mark.parametrize("splits", [
    ("train", "test"), ("train", "val"), ("train", "valid"), ("Training", "Validation"), ("train", "val", "test"),
])
def test_splits_beside_each_other_are_refused(tmp_path, splits):
    for split in splits:
        classes(tmp_path / split, ["cat", "dog"])
    with pytest.raises(InputError, match="contains the splits"):
        find_source(tmp_path, num_classes=2)
    assert len(find_source(tmp_path / splits[-1], num_classes=2)) == 2


def test_a_folder_of_one_split_stands_for_it(tmp_path, caplog):
    classes(tmp_path / "test", ["cat", "dog"])
    with caplog.at_level(logging.INFO, "mid_nbdev"):
        assert labels_of(find_source(tmp_path, num_classes=2)) == {"cat/photo.png": 0, "dog/photo.png": 1}
    assert "evaluating its folder test" in caplog.text


def test_a_folder_around_the_classes_is_named(tmp_path):
    classes(tmp_path / "photos", ["cat", "dog"])
    with pytest.raises(InputError, match="are deeper, in cat, dog"):
        find_source(tmp_path, num_classes=2)


def test_what_systems_leave_among_data_is_no_data(tmp_path):
    classes(tmp_path, ["cat", "dog"])
    checkpoints = (".ipynb_checkpoints/photo-checkpoint.png", "cat/.ipynb_checkpoints/photo.png")
    for junk in (*checkpoints, "__MACOSX/cat/._photo.png"):
        picture(tmp_path / junk)
    for junk in ("cat/._photo.png", ".DS_Store", "cat/.DS_Store"):
        (tmp_path / junk).write_bytes(b"\0")
    assert labels_of(find_source(tmp_path, num_classes=2)) == {"cat/photo.png": 0, "dog/photo.png": 1}
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name in ("cat", "dog", "__MACOSX"):
            archive.add(tmp_path / name, name)
    assert len(find_source(tmp_path / "all.tar", num_classes=2)) == 2
    assert len(find_source(f"{tmp_path}/*/*.png", num_classes=2)) == 2


def reads(data, num_classes, **options):
    "Labels by file name, or the message."
    try:
        source = find_source(data, num_classes=num_classes, **options)
    except InputError as error:
        return str(error)
    return {name.rpartition("/")[2]: label for name, label in labels_of(source).items()}


@pytest.mark.parametrize("names, num_classes", [
    (("cat/young/a.png", "dog/old/b.png", "emu/old/c.png"), 3),
    (("a/sub/1.png", "b/1/2.png"), 2),
    (("n01440764/images/1.png", "n01484850/images/2.png"), 1000),
    (("fish/n01440764/1.png", "sharks/n01484850/2.png"), 1000),
    (("cat/1.png", "cat/young/2.png", "dog/3.png"), 2),
    (("north/cat/1.png", "south/cat/2.png"), 2),
])
def test_a_folder_a_glob_and_an_archive_are_read_by_one_rule(tmp_path, names, num_classes):
    for name in names:
        picture(tmp_path / "data" / name)
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", "")
    folder = reads(tmp_path / "data", num_classes)
    assert isinstance(folder, dict) and len(folder) == len(names)
    assert reads(f"{tmp_path}/data/**/*.png", num_classes) == folder == reads(tmp_path / "data.tar", num_classes)


@pytest.mark.parametrize("pattern", ["*/*/*.png", "**/*.png", "*/cat/*.png"])
def test_a_glob_over_splits_is_refused(tmp_path, pattern):
    for split in ("train", "val"):
        classes(tmp_path / split, ["cat", "dog"])
    assert f"{tmp_path}: contains the splits train, val" in reads(f"{tmp_path}/{pattern}", 2)
    assert reads(f"{tmp_path}/val/*/*.png", 2) == {"photo.png": 1}  # of two files of one name the last


def test_a_glob_says_which_level_it_took(tmp_path, caplog):
    for name in ("north/cat/1.png", "south/dog/2.png"):
        picture(tmp_path / name)
    with caplog.at_level(logging.INFO, "mid_nbdev"):
        assert reads(f"{tmp_path}/*/*/*.png", 2) == {"1.png": 0, "2.png": 1}
    assert "first level" in caplog.text


def test_images_outside_class_folders_are_named(tmp_path):
    classes(tmp_path, ["cat", "dog"])
    picture(tmp_path / "a.png")
    with tarfile.open(tmp_path.parent / f"{tmp_path.name}.tar", "w") as archive:
        archive.add(tmp_path, "")
    for data in (tmp_path, f"{tmp_path}.tar"):
        assert "1 images are outside class folders (first: a.png); give --labels" in reads(data, 2)


# An archive beside folders


@pytest.mark.parametrize("archive", ["backup.tar", "rows.parquet"])
def test_an_archive_beside_images_is_refused(tmp_path, archive):
    classes(tmp_path, ["cat", "dog"])
    (tmp_path / archive).write_bytes(b"")
    with pytest.raises(InputError, match=f"contains both {archive} and cat/photo.png"):
        find_source(tmp_path, num_classes=2)
    assert len(find_source(f"{tmp_path}/*/*", num_classes=2)) == 2


def test_two_kinds_of_archives_are_refused(tmp_path):
    for name in ("a.tar", "b.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="contains both a.tar and b.parquet"):
        find_source(tmp_path)


def test_imagenets_own_archive_beside_its_folders_is_no_question(tmp_path):
    classes(tmp_path / "val", ["n01440764", "n01484850"], ".JPEG")
    classes(tmp_path / "train", ["n01440764"], ".JPEG")
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"")
    assert labels_of(find_source(tmp_path)) == {"n01440764/photo.JPEG": 0, "n01484850/photo.JPEG": 2}


# Skipped images


@pytest.mark.parametrize("ending", [".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".avif", ".ppm", ".JPG", ".jfif"])
def test_whatever_pillow_reads_counts(tmp_path, ending):
    try:
        classes(tmp_path / "data", ["cat", "dog"], ending)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow does not write {ending}: {error}")
    for data in (tmp_path / "data", f"{tmp_path}/data/*/*{ending}"):
        source = find_source(data, num_classes=2)
        assert len(source) == 2 and read_image(source, 0, 8, "bilinear")[2] == ""
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", "")
    assert len(find_source(tmp_path / "data.tar", num_classes=2)) == 2


def test_what_is_left_out_is_counted_aloud(tmp_path, caplog):
    classes(tmp_path, ["cat", "dog"])
    for name in ("cat/raw.heic", "dog/raw.HEIC", "dog/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    with caplog.at_level(logging.INFO, "mid_nbdev"):
        assert len(find_source(tmp_path, num_classes=2)) == 2
    assert "skipped 3 files" in caplog.text and ".heic 2, .txt 1" in caplog.text


@pytest.mark.parametrize("kind", ["glob", "tar", "predict"])
def test_what_is_left_out_of_globs_archives_and_predictions_is_counted_too(tmp_path, caplog, kind):
    from mid_nbdev.cli.predict import _list_images

    classes(tmp_path / "data", ["cat", "dog"])
    for name in ("cat/raw.heic", "dog/notes.txt", "cat/._raw.heic", "dog/.hidden"):
        (tmp_path / "data" / name).write_bytes(b"")
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", "")
    data = {"glob": f"{tmp_path}/data/*/*", "tar": tmp_path / "data.tar", "predict": tmp_path / "data"}[kind]
    with caplog.at_level(logging.INFO, "mid_nbdev"):
        assert len(_list_images([str(data)]) if kind == "predict" else find_source(data, num_classes=2)) == 2
    assert "skipped 2 files" in caplog.text and ".heic 1" in caplog.text and ".txt 1" in caplog.text


# webdataset


def shard(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            if not isinstance(content, bytes):
                buffer = io.BytesIO()
                content.save(buffer, "PNG")
                content = buffer.getvalue()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


PIXELS = Image.new("RGB", (8, 8))


def test_names_with_dots_are_not_paired_wrongly(tmp_path):
    members = {"img_0.5.jpg": PIXELS, "img_0.5.cls": b"5", "img_0.7.jpg": PIXELS, "img_0.7.cls": b"7"}
    with pytest.raises(InputError, match="sample 'img_0' has the images 5.jpg, 7.jpg"):
        find_source(shard(tmp_path / "a.tar", members))


def test_masks_and_thumbnails_are_no_images_of_their_own(tmp_path):
    members = {"000.jpg": PIXELS, "000.seg.png": PIXELS, "000.thumb.jpg": PIXELS, "000.cls": b"3"}
    members |= {"001.jpg": PIXELS, "001.cls": b"4"}
    path = shard(tmp_path / "a.tar", members)
    assert labels_of(find_source(path)) == {"000.jpg": 3, "001.jpg": 4}
    from mid_nbdev.data.files import Limits
    from mid_nbdev.data.shards import list_shards, read_shard

    kind, shards, _ = list_shards(str(path))
    assert [item.key for item in read_shard(str(path), kind, shards[0], Limits())] == ["000.jpg", "001.jpg"]


@pytest.mark.parametrize("name, sample", [
    ("a/b.c/000.jpg", ("a/b.c/000", "jpg")), ("000.SEG.PNG", ("000", "seg.png")), ("./7.cls", ("./7", "cls")),
    ("x/img_0.5.jpg", ("x/img_0", "5.jpg")),
])
def test_names_are_cut_as_webdataset_cuts_them(name, sample):
    assert sample_part(name) == sample
    key, part = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", name.removeprefix("./")).groups()  # webdataset's own rule
    assert (name[: len(name) - len(name.removeprefix("./"))] + key, part.lower()) == sample


def test_a_sample_whose_endings_are_in_capitals_is_one_for_whoever_reads_it(tmp_path):
    members = {"0.JPG": PIXELS, "0.Mask.PNG": PIXELS, "0.CLS": b"3"}
    path = shard(tmp_path / "a.tar", members)
    assert labels_of(find_source(path)) == {"0.JPG": 3}
    from mid_nbdev.data.files import Limits
    from mid_nbdev.data.shards import list_shards, read_shard

    kind, shards, _ = list_shards(str(path))
    assert [item.key for item in read_shard(str(path), kind, shards[0], Limits())] == ["0.JPG"]


def test_a_sample_with_two_plain_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="has the images jpg, png"):
        find_source(shard(tmp_path / "a.tar", {"000.jpg": PIXELS, "000.png": PIXELS, "000.cls": b"1"}))


def test_a_sample_without_a_label_is_named(tmp_path):
    with pytest.raises(InputError, match="1 images have no .cls member"):
        find_source(shard(tmp_path / "a.tar", {"000.jpg": PIXELS, "000.cls": b"1", "001.jpg": PIXELS, "001.txt": b"1"}))


# Numbers taken for images


@pytest.mark.parametrize("value, kind", [(40_000, np.uint16), (0.5, np.float32), (70_000, np.int32)])
def test_pixels_of_unknown_range_are_failed_images(tmp_path, value, kind):
    Image.fromarray(np.full((8, 8), value, kind)).save(tmp_path / "a.tif")
    (tmp_path / "labels.csv").write_text("file,label\na.tif,1\n")
    source = find_source(tmp_path, tmp_path / "labels.csv")
    assert "convert the image to 8 bits per channel" in read_image(source, 0, 8, "bilinear")[2]


# Sources


def test_a_dataset_with_a_missing_image_has_one_failed_image(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    content = {"image": [PIXELS, None], "label": [1, 2]}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(tmp_path / "saved")
    source = find_source(tmp_path / "saved")
    assert [bool(read_image(source, number, 8, "bilinear")[2]) for number in range(2)] == [False, True]
    assert len(source.fingerprint()) == 64


@pytest.mark.parametrize("text, encoding", [
    ("file, label\na.png, 1\n", "utf-8"), ("File,LABEL\na.png,1\n", "utf-8"), ("file;label\na.png;1\n", "utf-8"),
    ("file\tlabel\na.png\t1\n", "utf-8"), ("file,label\na.png,1\n", "utf-16"), ("file,label\na.png,1\n", "utf-8-sig"),
    ("id,label,file\n7,1,a.png\n", "utf-8"), ("file,label\r\na.png,1\r\n\r\n", "utf-8"),
])
def test_tables_as_spreadsheets_write_them(tmp_path, text, encoding):
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    assert labels_of(find_source(tmp_path, tmp_path / "labels.csv")) == {"a.png": 1}


def test_two_spellings_of_one_file_are_one_image(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\n./a.png,1\na.png,2\n")
    with pytest.raises(InputError, match="more than once"):
        find_source(tmp_path, tmp_path / "labels.csv")


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\na.png,1\n\n\nb.png,cat\n")
    with pytest.raises(InputError, match="line 5"):
        find_source(tmp_path, tmp_path / "labels.csv")


# Same image, same crops


def test_a_file_has_the_same_crops_wherever_it_lies():
    assert crop_key("photos/cat/1.jpg") == crop_key("cat/1.jpg") == crop_key("1.jpg") != crop_key("2.jpg")


def test_exif_orientation_is_applied_when_asked(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "a.jpg", (16, 8), exif=exif)
    assert exif_orientation(path) == 6 and exif_orientation(picture(tmp_path / "b.jpg")) == 1
    assert decode(path, 8, "bilinear").shape == torch.Size([8, 16, 3])
    assert decode(path, 8, "bilinear", exif=True).shape == torch.Size([16, 8, 3])


# Numbers counted from 1, splits on any level, tables that tell of themselves


@pytest.mark.parametrize("names, num_classes, said", [
    (["1", "2"], 3, "folder 1 is class 1; counted from 1, it is class 0; give --class-order number"),
    ([str(n) for n in range(1, 10)], 10, "folder 1 is class 1; counted from 1, it is class 0"),
    (["05", "07"], 10, "folder 05 is class 5; counted from 1, it is class 4"),
    (["01", "1", "2"], 3, "class folders 01 and 1 are the same number but different texts"),
])
def test_numbers_that_may_be_counted_from_1_or_are_one_number_are_refused(names, num_classes, said):
    with pytest.raises(InputError, match=said):
        class_numbers(names, num_classes)


def test_an_order_or_names_settle_numbers_without_a_0():
    assert class_numbers(["1", "2"], 3, class_order="number") == {"1": 1, "2": 2}
    assert class_numbers(["1", "2"], 3, ["1", "2", "3"]) == {"1": 0, "2": 1}
    assert class_numbers(["01", "1", "2"], 3, class_order="text") == {"01": 0, "1": 1, "2": 2}


@pytest.mark.parametrize("names, num_classes, said", [
    (["1", "2", "3"], 3, "in ascending order: 1 is class 0, 3 is class 2"),
    (["2019", "2020", "2021"], 3, "in ascending order: 2019 is class 0, 2021 is class 2"),
    (["00", "02", "11"], 12, "read as class numbers"), (["0", "1", "2"], 3, ""), (["00", "1", "2"], 3, ""),
    (["0001", "0002"], 1000, "ImageNet's class numbers"),
])
def test_how_numbers_are_read_is_said_unless_they_are_all_there(names, num_classes, said, caplog):
    with caplog.at_level(logging.INFO, "mid_nbdev"):
        class_numbers(names, num_classes)
    assert said in caplog.text and bool(said) == bool(caplog.text)


@pytest.mark.parametrize("splits, one", [
    (("cat/train", "cat/test", "dog/train", "dog/test"), "*/train/*"), (("train_v2/cat", "val_v2/dog"), "val_v2/*/*"),
    (("imagenet-train/cat", "imagenet-val/dog"), "imagenet-val/*/*"), (("train2017/cat", "val2017/dog"), "val2017/*/*"),
])
def test_splits_are_refused_on_any_level_and_under_longer_names(tmp_path, splits, one):
    for folder in splits:
        picture(tmp_path / folder / f"{folder.replace('/', ' ')}.png")
    said = reads(tmp_path, 2)
    assert "contains the splits" in said and said.endswith(one.removesuffix("/*/*")), said
    assert isinstance(reads(f"{tmp_path}/{one}", 2 if "*/train" in one else 1), dict)


def test_words_of_splits_in_names_of_classes_are_no_splits(tmp_path):
    classes(tmp_path, ["test_tube", "train_station", "training_shoe"])
    assert len(find_source(tmp_path, num_classes=3)) == 3


def test_splits_in_an_archive_are_refused_with_what_works(tmp_path):
    for split in ("train", "val"):
        classes(tmp_path / "data" / split, ["cat", "dog"])
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", "")
    assert "unpack it and name one of its folders, or give --labels" in reads(tmp_path / "data.tar", 2)
    (tmp_path / "val.csv").write_text("file,label\nval/cat/photo.png,0\nval/dog/photo.png,1\n")
    assert len(find_source(tmp_path / "data.tar", tmp_path / "val.csv", 2)) == 2


@pytest.mark.parametrize("text, said", [
    ("file,label,split\na.png,0,train\nb.png,1,test\n", "contains the splits test, train; .* save the rows of one"),
    ("file,label\na.png,0\nb.png,1,2\n", "line 3 has 3 fields and the header 2"),
    ("file,label\na.png,cat\n", "label 'cat' of 'a.png' names two classes; list each name once in --class-names"),
    ("file,label\nPHOTOS/a.png,0\nb.png,1\n", "the folder PHOTOS has no file 'PHOTOS/a.png', but it has 'a.png'"),
])
def test_what_is_wrong_with_a_table_is_named(tmp_path, text, said):
    for name in ("a.png", "b.png"):
        picture(tmp_path / "PHOTOS" / name)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        find_source(tmp_path / "PHOTOS", tmp_path / "labels.csv", 3, ["cat", "dog", "cat"])


def test_a_table_of_one_split_and_one_in_utf_16_without_a_mark(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label,split\na.png,0,test\n")
    assert labels_of(find_source(tmp_path, tmp_path / "labels.csv")) == {"a.png": 0}
    (tmp_path / "labels.csv").write_bytes("file,label\na.png,0\n".encode("utf-16-le"))
    with pytest.raises(InputError, match="UTF-16 without a byte order mark"):
        find_source(tmp_path, tmp_path / "labels.csv")


def test_a_parquet_file_without_bytes_says_so(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    content = pa.table({"image": [{"bytes": None, "path": "a.png"}], "label": [0]},
                       schema=pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                                         ("label", pa.int64())]))
    pq.write_table(content, tmp_path / "a.parquet")
    assert "no bytes" in read_image(find_source(tmp_path / "a.parquet"), 0, 8, "bilinear")[2]
