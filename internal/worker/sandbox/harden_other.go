//go:build !linux

package sandbox

import "time"

// Protect does nothing: only Linux has what it needs.
func Protect() error { return nil }

// Harden does nothing: only Linux has what it needs.
func Harden() error { return nil }

// EndAll does nothing: descendants cannot be listed here.
func EndAll([]int, time.Duration) error { return nil }
