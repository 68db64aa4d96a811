"Where crops lie: sizes and offsets, boxes, recipes."
