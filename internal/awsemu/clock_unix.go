//go:build unix

package awsemu

import "golang.org/x/sys/unix"

// monotonic is the machine's clock in nanoseconds: package time's stands still in
// a bubble.
func monotonic() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Nano()
}
