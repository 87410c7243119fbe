"""Policy around the seam: functions `Invoke -> Invoke`, one concern each, composed in `stack`."""
