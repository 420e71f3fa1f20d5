"""The audit trail: what each side did, in a log that shows whether it was touched since."""
