package awsmeter

import (
	"io"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// Reporter writes what each invocation of a function used, as one line of its log.
// Give its Meter to sdkmeter.Install. A nil Reporter does nothing.
type Reporter struct {
	Meter *Meter

	out      io.Writer
	function string
	mb       int
	arch     string
	warm     atomic.Bool
}

// NewReporter returns the reporter of a function of package awsenv; getenv reads
// the environment that Lambda sets, and labels is awslabel.Of.
func NewReporter(function string, out io.Writer, getenv func(string) string, labels func(op Op, input any) []Label) *Reporter {
	r := &Reporter{Meter: New(labels), out: out, function: function, arch: "x86_64"}
	if runtime.GOARCH == "arm64" {
		r.arch = "arm64"
	}
	r.mb, _ = strconv.Atoi(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))
	return r
}

// Begin starts an invocation for labels, one per message of its event. The bodies
// have that many bytes in all; 0: they came from no queue. The returned function
// ends it and writes the line.
func (r *Reporter) Begin(bytes int, labels ...Label) (end func()) {
	if r == nil {
		return func() {}
	}
	began := time.Now()
	return func() {
		if bytes > 0 {
			r.Meter.Delivered(bytes, labels...)
		}
		r.Meter.Invoked(time.Since(began), labels...)
		l := Line{Function: r.function, Cold: !r.warm.Swap(true), MemoryMB: r.mb, Arch: r.arch, Usage: UsageOf(r.Meter.Take())}
		_, _ = r.out.Write(l.Encode()) // a log that cannot be written is no reason to fail
	}
}
