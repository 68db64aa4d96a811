"Statistics, tables, figures, reports and the explorer."
