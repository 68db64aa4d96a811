"""Hostile files, made here, each with the expected answer: "" for a row, otherwise a piece of the reason."""

import csv
import io
import json
import os
import pickle
import socket
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

ROW, ANY_REASON = "", "any reason"
NOT_AN_IMAGE, TOO_LARGE = "not an image", "limit"


def picture(height=90, width=120, seed=0):
    "A made picture: a gradient with noise on it."
    generator = np.random.default_rng(seed)
    gradient = np.linspace(0, 200, width)[None, :, None] * np.ones((height, 1, 3)) * generator.uniform(0.3, 1, 3)
    return Image.fromarray((gradient + generator.integers(0, 55, (height, width, 3))).astype(np.uint8))


def saved(image, kind, **options):
    "An image's bytes in a format."
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def png(width, height, body=b"", extra=b"", depth=8, colour=2):
    "A PNG put together by hand: any size, any body."

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def text_bomb(size):
    "A compressed text chunk of a PNG that unpacks to `size` bytes."
    content = b"Comment\0\0" + zlib.compress(bytes(size), 9)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def many_strips(strips):
    "A TIFF of one column, as many rows and as many strips, all of them the same byte."
    places = (273, 4, strips, 122), (278, 4, 1, 1), (279, 4, strips, 122)
    tags = [(256, 4, 1, 1), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), *places]
    listed = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + listed + bytes(16) + struct.pack("<I", 1) * strips


class Command:
    "Pickled, this is code: unpickled, it would make a file."

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch {}) (w) file\nshowpage\n"


def contents(canary):
    "Bytes by file name, each with the expected answer."
    good, grey = picture(), picture().convert("L")
    jpeg, lossless, gif = saved(good, "JPEG"), saved(good, "PNG"), saved(good, "GIF")
    webp, tiff, bmp = saved(good, "WEBP"), saved(good, "TIFF"), saved(good, "BMP")
    made = {}
    for name, whole in (("jpg", jpeg), ("png", lossless), ("gif", gif), ("webp", webp)):
        for tenth in range(10):
            made[f"{tenth}_tenths.{name}"] = (whole[: len(whole) * tenth // 10], ANY_REASON)
    exif, junk = Image.Exif(), Image.Exif()
    exif[0x0112], junk[0x0112], junk[0x9286] = 6, 77, b"\xff" * 500
    alpha = good.copy()
    alpha.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    frames = [picture(seed=number) for number in range(3)]
    made |= {
        "cmyk.jpg": (saved(good.convert("CMYK"), "JPEG"), ROW),
        "grey.jpg": (saved(grey, "JPEG"), ROW),
        "progressive.jpg": (saved(good, "JPEG", progressive=True), ROW),
        "turned.jpg": (saved(good, "JPEG", exif=exif), ROW),
        "mad_exif.jpg": (saved(good, "JPEG", exif=junk), ROW),
        "sixteen_bit.png": (saved(deep, "PNG"), "convert the image to 8 bits per channel"),
        "sixteen_bit_rgb.png": (png(64, 64, b"".join(b"\0" + os.urandom(6 * 64) for _ in range(64)), depth=16), ROW),
        "palette.png": (saved(good.quantize(16), "PNG"), ROW),
        "one_bit.png": (saved(good.convert("1"), "PNG"), ROW),
        "palette_alpha.png": (saved(good.quantize(16), "PNG", transparency=3), ROW),
        "alpha.png": (saved(alpha, "PNG"), ROW),
        "grey_alpha.png": (saved(alpha.convert("LA"), "PNG"), ROW),
        "float.tiff": (saved(grey.convert("F"), "TIFF"), "convert the image to 8 bits per channel"),
        "deep_integers.tiff": (saved(grey.convert("I"), "TIFF"), "convert the image to 8 bits per channel"),
        "lab.tiff": (saved(good.convert("RGB").convert("YCbCr"), "TIFF"), ROW),
        "animated.gif": (saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), ROW),
        "animated.png": (saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), ROW),
        "animated.webp": (saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), ROW),
        "pages.tiff": (saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]), ROW),
        "one_pixel.png": (saved(picture(1, 1), "PNG"), ROW),
        "column.png": (saved(picture(20000, 1), "PNG"), TOO_LARGE),
        "line.png": (saved(picture(1, 20000), "PNG"), TOO_LARGE),
        "short_line.png": (saved(picture(1, 2700), "PNG"), TOO_LARGE),
        "strips.tiff": (many_strips(300_000), "lists 300,000 numbers"),
        "hundred_megapixels.jpg": (saved(Image.new("RGB", (10000, 10000), "red"), "JPEG"), ROW),
        "bomb.png": (png(50000, 50000), TOO_LARGE),
        "large.png": (png(13500, 13500), TOO_LARGE),
        "bomb.gif": (gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:], TOO_LARGE),
        "text_bomb.png": (png(8, 8, b"\0" * 8 * 25, text_bomb(2**27)), ANY_REASON),
        "no_width.png": (png(0, 0), ANY_REASON),
        "negative.bmp": (bmp[:18] + struct.pack("<i", -7) + bmp[22:], ANY_REASON),
        "short_body.png": (png(64, 64, b"\0" * 100), ANY_REASON),
        "bad_sum.png": (lossless[:60] + b"\0\0\0\0" + lossless[64:], ANY_REASON),
        "circle.tiff": (tiff[:4] + struct.pack("<I", 4) + tiff[8:], ANY_REASON),
        "no_start.tiff": (tiff[:4] + b"\xff\xff\xff\x7f" + tiff[8:], ANY_REASON),
        "trailing.jpg": (jpeg + b"\0" * 5000, ROW),
        "twice.jpg": (jpeg + jpeg, ROW),
        "empty.jpg": (b"", NOT_AN_IMAGE),
        "zeros.jpg": (bytes(5000), NOT_AN_IMAGE),
        "ones.png": (b"\xff" * 5000, NOT_AN_IMAGE),
        "magic_only.jpg": (b"\xff\xd8\xff\xe0" + os.urandom(3000), ANY_REASON),
        "text.jpg": (b"a photograph, honestly", NOT_AN_IMAGE),
        "page.jpg": (b"<html><img src='x.jpg'></html>", NOT_AN_IMAGE),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NOT_AN_IMAGE),
        "utf16.png": ("not an image".encode("utf-16"), NOT_AN_IMAGE),
        "archive.jpg": (b"PK\x03\x04" + bytes(500), NOT_AN_IMAGE),
        "program.jpg": (b"\x7fELF" + bytes(500), NOT_AN_IMAGE),
        "script.jpg": (f"#!/bin/sh\ntouch {canary}\n".encode(), NOT_AN_IMAGE),
        "pickle.jpg": (pickle.dumps(Command(canary)), NOT_AN_IMAGE),
        "document.jpg": (b"%PDF-1.7\n%%EOF", NOT_AN_IMAGE),
        "postscript.jpg": (POSTSCRIPT.format(canary).encode(), NOT_AN_IMAGE),
        "really.png": (jpeg, ROW),
        "really.jpg": (lossless, ROW),
        "gif.jpg": (gif, ROW),
        "bmp.jpg": (bmp, ROW),
        "webp.jpeg": (webp, ROW),
        "with space.jpg": (jpeg, ROW),
        "new\nline.jpg": (jpeg, ROW),
        "quotes\"'.jpg": (jpeg, ROW),
        "comma,semi;colon.jpg": (jpeg, ROW),
        "-dash.jpg": (jpeg, ROW),
        "ünïcödé 图像 🖼.jpg": (jpeg, ROW),
        ".hidden.jpg": (jpeg, ROW),
        "back\\slash.jpg": (jpeg, ROW),
        "%s%n$(touch x)`.jpg": (jpeg, ROW),
        "=1+1.jpg": (jpeg, ROW),
        "clear\x1b[2J\x07.jpg": (jpeg, ROW),
        "gpj.\u202eexe.jpg": (jpeg, ROW),
        "l" * 251 + ".jpg": (jpeg, ROW),
        os.fsdecode(b"caf\xe9.jpg"): (jpeg, ROW),
    }
    return made


def make_corpus(folder, canary):
    "Write all of it, with links, pipes and folders besides; the expected answer by name."
    folder = Path(folder)
    folder.mkdir()
    expected = {}
    for name, (content, answer) in contents(canary).items():
        (folder / name).write_bytes(content)
        expected[name] = answer
    (folder / "good.jpg").write_bytes(saved(picture(), "JPEG"))
    links = {
        "loop.jpg": ("loop.jpg", "symbolic links"),
        "dangling.jpg": ("nothing", "no such file"),
        "link.jpg": ("good.jpg", ROW),
        "endless.jpg": ("/dev/zero", "not a file"),
        "null.jpg": ("/dev/null", "not a file"),
    }
    for name, (target, answer) in links.items():
        (folder / name).symlink_to(target)
        expected[name] = answer
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    place = os.getcwd()
    os.chdir(folder)  # a socket's path may be 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.jpg")
    finally:
        os.chdir(place)
    with open(folder / "sparse.jpg", "wb") as file:
        file.truncate(2**29)
    expected |= {
        "good.jpg": ROW,
        "folder.jpg": "not a file",
        "pipe.jpg": "not a file",
        "socket.jpg": "not a file",
        "sparse.jpg": TOO_LARGE,
        "missing.jpg": "no such file",
        "n" * 300 + ".jpg": "name too long",
    }
    return expected


def write_labels(path, labelled):
    "A CSV of labels, whatever the names are."
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *sorted(labelled.items())])


GOOD_LINE = "good.jpg,1\n"
LABELS = {  # a CSV by what is wrong with it, with a piece of the message
    "no bytes": (b"", "cannot be read"),
    "header alone": (b"file,label\n", "no rows"),
    "no header": (b"good.jpg,1\n", "expected the columns file and label"),
    "label missing": (b"file,label\ngood.jpg,\n", "line 2: label ''"),
    "column missing": (b"file\ngood.jpg\n", "expected the columns file and label"),
    "label twice": (f"file,label\n{GOOD_LINE}{GOOD_LINE}".encode(), "more than once"),
    "too large": (b"file,label\ngood.jpg,10\n", "not a class number from 0 to 9"),
    "negative": (b"file,label\ngood.jpg,-1\n", "not a class number"),
    "not a number": (b"file,label\ngood.jpg,cat\n", "not a class number"),
    "not whole": (b"file,label\ngood.jpg,1.5\n", "not a class number"),
    "not a number at all": (b"file,label\ngood.jpg,nan\n", "not a class number"),
    "huge": (b"file,label\ngood.jpg," + b"9" * 5000 + b"\n", "not a class number"),
    "other digits": ("file,label\ngood.jpg,٣\n".encode(), "not a class number"),
    "outside": (b"file,label\n../good.jpg,1\n", "not a path inside the folder"),
    "absolute": (b"file,label\n/etc/passwd,1\n", "not a path inside the folder"),
    "no name": (b"file,label\n,1\n", "not a path inside the folder"),
    "one too many": (b"file,label\ngood.jpg,1,2,3\ngood.jpg,1\n", ANY_REASON),
    "an image": (saved(picture(), "PNG"), ANY_REASON),
    "zeros": (bytes(300), ANY_REASON),
    "quote left open": (b'file,label\n"good.jpg,1\n', ANY_REASON),
    "none of the files": (b"file,label\nother.jpg,1\n", "none of its 1 files"),
}


def checkpoints(network, canary):
    "Bytes of checkpoints by file name, each with a piece of the expected message."
    state = network.state_dict()
    first = next(name for name, tensor in state.items() if tensor.is_floating_point())

    def torch_saved(value, **options):
        sink = io.BytesIO()
        torch.save(value, sink, **options)
        return sink.getvalue()

    def changed(**tensors):
        return save({**state, **tensors})

    good, zipped, tarred = save(state), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name, content in (("archive/data.pkl", pickle.dumps(Command(canary))), ("archive/version", b"3\n")):
            archive.writestr(name, content)
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        member = tarfile.TarInfo("pickle")
        member.size = len(content := pickle.dumps(Command(canary)))
        archive.addfile(member, io.BytesIO(content))
    array = io.BytesIO()
    np.save(array, np.array([Command(canary)], dtype=object), allow_pickle=True)
    mad = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    classifier = next(name for name in reversed(state) if name.endswith("weight"))
    return {
        "code.pth": (pickle.dumps(Command(canary)), "not a file of tensors"),
        "code_among_tensors.pth": (torch_saved({**state, "x": Command(canary)}), "not a file of tensors"),
        "code_zipped.pth": (zipped.getvalue(), "not a file of tensors"),
        "code_tarred.pth": (tarred.getvalue(), "not a file of tensors"),
        "code_old_format.pth": (
            torch_saved(Command(canary), _use_new_zipfile_serialization=False),
            "not a file of tensors",
        ),
        "code.npy": (array.getvalue(), "not a file of tensors"),
        "whole_network.pth": (torch_saved(network), "not a file of tensors"),
        "code.safetensors": (pickle.dumps(Command(canary)), "not a file of tensors"),
        "empty.pth": (b"", "not a file of tensors"),
        "empty.safetensors": (b"", "not a file of tensors"),
        "text.pth": (b"weights", "not a file of tensors"),
        "nothing.pth": (torch_saved({}), "dictionary of tensors"),
        "list.pth": (torch_saved([torch.ones(2)]), ANY_REASON),
        "numbers.pth": (torch_saved({"a": 1}), "dictionary of tensors"),
        "inner.pth": (torch_saved({"state_dict": 3}), ANY_REASON),
        "half.safetensors": (good[: len(good) // 2], "not a file of tensors"),
        "half.pth": (torch_saved(state)[:20000], "not a file of tensors"),
        "long_header.safetensors": (struct.pack("<Q", 2**62) + good[8:], "not a file of tensors"),
        "mad_header.safetensors": (struct.pack("<Q", 90) + mad.encode().ljust(90), "not a file of tensors"),
        "nan.safetensors": (changed(**{first: state[first] * float("nan")}), "not finite"),
        "infinite.safetensors": (changed(**{first: torch.full_like(state[first], float("inf"))}), "not finite"),
        "shape.safetensors": (changed(**{first: torch.zeros(3)}), "of another shape"),
        "classes.safetensors": (
            changed(**{classifier: torch.zeros(7, state[classifier].shape[1])}),
            "of another shape",
        ),
        "missing.safetensors": (save({name: tensor for name, tensor in state.items() if name != first}), "missing"),
        "unknown.safetensors": (changed(more=torch.zeros(3)), "unknown"),
        "other.safetensors": (save({"a": torch.zeros(3)}), "missing"),
    }


def archives(folder, canary):
    "Write archives and tables of images; by file name a piece of the message, or the expected answer by image."
    folder = Path(folder)
    folder.mkdir()
    jpeg, code = saved(picture(), "JPEG"), pickle.dumps(Command(canary))
    members = {"../../up.jpg": jpeg, "/absolute.jpg": jpeg, "good.jpg": jpeg, "code.jpg": code, "short.jpg": jpeg[:400]}
    labels = {f"{name.rpartition('.')[0]}.cls": b"3" for name in members}

    def tar(name, content, mode="w", links=()):
        with tarfile.open(folder / name, mode) as archive:
            for kind, member in [*((tarfile.REGTYPE, one) for one in content), *links]:
                written = tarfile.TarInfo(member[0])
                written.type, written.linkname, written.size = kind, "/etc/passwd", len(member[1])
                archive.addfile(written, io.BytesIO(member[1]))

    odd = [
        (kind, (f"{kind.decode()}.jpg", b""))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
    ]
    tar("odd.tar", [*members.items(), *labels.items(), ("good.pyd", code), ("good.pickle", code)], links=odd)
    tar("twice.tar", [("good.jpg", jpeg)] * 2)
    tar("compressed.tar", members.items(), "w:gz")
    tar("word.tar", [("good.jpg", jpeg), ("good.cls", b"cat")])
    tar("no_label.tar", [("good.jpg", jpeg), ("other.cls", b"3")])
    (folder / "short.tar").write_bytes((folder / "odd.tar").read_bytes()[:6000])
    answers = {
        "../../up.jpg": ROW,
        "/absolute.jpg": ROW,
        "good.jpg": ROW,
        "code.jpg": NOT_AN_IMAGE,
        "short.jpg": ANY_REASON,
    }
    expected = {
        "odd.tar": answers,
        "twice.tar": "more than once",
        "word.tar": "not a class number",
        "no_label.tar": "no .cls member",
    }
    expected |= {"compressed.tar": "not an uncompressed tar", "short.tar": "unexpected end"}

    def parquet(name, kind, images, label=3, extension=None):
        known = {"ARROW:extension:name": extension, "ARROW:extension:metadata": ""} if extension else None
        schema = pa.schema(
            [pa.field("image", kind, metadata=known), pa.field("key", pa.string()), pa.field("label", pa.int64())]
        )
        columns = {
            "image": images,
            "key": [f"{number}.jpg" for number in range(len(images))],
            "label": [label] * len(images),
        }
        pq.write_table(pa.table(columns, schema=schema), folder / name)

    struct_kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet("pickled.parquet", pa.large_binary(), [code, jpeg], extension="ray.data.arrow_pickled_object")
    parquet(
        "paths.parquet", struct_kind, [{"bytes": None, "path": "/etc/passwd"}, {"bytes": jpeg, "path": "../../up.jpg"}]
    )
    parquet("text.parquet", pa.string(), ["a photograph"])
    parquet("no_label.parquet", pa.binary(), [jpeg], label=None)
    pq.write_table(pa.table({"label": [3]}), folder / "no_image.parquet")
    (folder / "short.parquet").write_bytes((folder / "paths.parquet").read_bytes()[:-20])
    first_is_none = {"0.jpg": NOT_AN_IMAGE, "1.jpg": ROW}
    no_bytes = "the table has no bytes for it; paths in a table are not followed"
    expected |= {
        "pickled.parquet": first_is_none,
        "paths.parquet": {"0.jpg": no_bytes, "1.jpg": ROW},
        "text.parquet": {"0.jpg": no_bytes},
    }
    expected |= {"no_label.parquet": "not a class number", "no_image.parquet": "expected one of image, img"}
    return expected | {"short.parquet": "not a Parquet file"}
