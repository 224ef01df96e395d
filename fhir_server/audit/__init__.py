"""The audit trail: who did what, to whose data, when and why; chained, so that nothing can be changed unseen."""
