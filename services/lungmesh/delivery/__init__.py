"""Sends reports to hospitals under the patients' own identity; it alone may restore one."""
