"The loop over labelled images, its run folder, its ranks, its verification; corpora."
