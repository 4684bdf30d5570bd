//go:build !unix

package awsemu

// monotonic is not known here: no computing time is charged.
func monotonic() int64 { return 0 }
