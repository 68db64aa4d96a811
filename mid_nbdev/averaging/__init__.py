"Averages of crops: `MID`, early stopping, dense averaging, crops by shape and as in training."
