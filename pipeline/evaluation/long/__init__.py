"""`ivos bench long`: memory, disk and seconds per frame of one round over videos of different length."""
