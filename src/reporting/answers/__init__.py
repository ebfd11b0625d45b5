"""The answers' logic, a module per part: which numbers a task quotes, and which sentence they make true.

The prose that holds for every run stands in `src/reporting/templates`; what depends on numbers is decided here.
"""
