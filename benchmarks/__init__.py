"""`make bench`: how fast the whole is, and how near to what the driver alone does with the same bytes.

Everything is real and on one machine: the server as `healthsphere serve` starts it, its embedded mongod, and load
generators in processes of their own. Each scenario is followed at once by its baseline: a process that does the
equivalent work with the database driver straight, on the same data and the same indexes.
"""
