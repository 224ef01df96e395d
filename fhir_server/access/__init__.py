"""Access policies, compiled into the database's own filters, and a store that holds every read and write to them.

There is one door: a `GuardedStore` has the methods of the store, so searches, includes, chains, histories, operations
and later pages all go through it, those too that are written tomorrow. What it does not know how to guard, it lacks.
"""
