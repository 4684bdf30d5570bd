package tasklog

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Try names one try of a task instance and says where and when it ran, as its
// row in the store tells.
type Try struct {
	Key    airflow.TaskInstanceKey
	Number int
	// Hostname is where its last dispatch ran, "" if it is not known.
	Hostname string
	// Start is when the try first started, End when it ended; zero while it runs.
	Start, End time.Time
	// Moved says that the try had several dispatches (it was rescheduled or
	// deferred), maybe on several hosts.
	Moved bool
}

// Reader reads the log of a try wherever it is kept: files (Logs), CloudWatch Logs
// (package cwlogs).
type Reader interface {
	// ReadTry calls f with each entry, oldest first, after the place that from
	// names ("" = the beginning), and returns the place to read on from.
	// airflow.ErrNotFound: the try has no log, or not yet. An error of f ends the
	// reading and is returned.
	ReadTry(ctx context.Context, t Try, from string, f func(Entry) error) (next string, err error)
}

var _ Reader = (*Logs)(nil)

// ReadTry implements Reader; places are byte offsets.
func (l *Logs) ReadTry(_ context.Context, t Try, from string, f func(Entry) error) (string, error) {
	offset := int64(0)
	if from != "" {
		var err error
		if offset, err = strconv.ParseInt(from, 10, 64); err != nil || offset < 0 {
			return from, airflow.Invalid("from", "%q is no place in a log file: expected what an earlier reading returned", from)
		}
	}
	next, err := l.Read(t.Key, t.Number, offset, f)
	return fmt.Sprint(next), err
}
