"The loop over labelled images, run folders, shared runs, verification, corpora."
