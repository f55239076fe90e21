"""Lightning: the module that papers build on, losses, schedules, callbacks, the command line."""
