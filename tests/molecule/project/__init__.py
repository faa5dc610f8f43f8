"""A project of doubles for the scenarios of roles that run one."""
