"""Comparing demographics, for `Patient/$match`: what is compared, how alike it is, and what that is worth."""
