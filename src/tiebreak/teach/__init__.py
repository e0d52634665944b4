"""Teachers: their labels for rows, the audit of those labels, and several teachers as one."""
