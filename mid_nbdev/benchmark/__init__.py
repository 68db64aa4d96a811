"Throughput, and comparisons with other libraries."
