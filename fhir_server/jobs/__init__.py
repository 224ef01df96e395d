"""Work that goes on after its request was answered, and survives the process that it began in.

`lease`: a name that one process has at a time. `jobs`: work that is a row, carried out under a lease. `run`: a job as
its work sees it. `job`: a job as everybody else sees it. `feed`: tells followers what changes; `follower`, `lane` and
`trunk` are its parts. `timers`: what is to be done at a moment.
"""
