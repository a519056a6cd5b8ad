"""Workers: processes that own tasks of a group, keep their leases, and hand them over."""
