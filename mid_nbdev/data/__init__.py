"What is read: files, labelled images, archives and datasets, shards of a corpus."
