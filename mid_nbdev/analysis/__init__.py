"What the numbers say: statistics, tables, figures, the explorer."
