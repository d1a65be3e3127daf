"""Documents that hpcbatch writes: fixed binary records and versioned JSON. Pure: bytes in, values out."""
