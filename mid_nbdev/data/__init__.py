"Files, labelled images, archives and data sets, shards of a corpus."
