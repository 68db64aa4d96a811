"Crops become one answer: `MID`, stopping early, dense averaging, crops by shape and as in training."
