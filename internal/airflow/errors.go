package airflow

import (
	"errors"
	"fmt"
	"strings"
)

// The sentinel errors of stores and services. Everything returned by them wraps
// one of these (test with errors.Is) or is a programming or I/O error.
var (
	ErrNotFound      = errors.New("not found")
	ErrAlreadyExists = errors.New("already exists")
	ErrConflict      = errors.New("changed by somebody else meanwhile")
	ErrTooLarge      = errors.New("too large")
	ErrThrottled     = errors.New("throttled")
	ErrUnavailable   = errors.New("unavailable")
	ErrNotAllowed    = errors.New("not allowed")
	// ErrSuperseded tells a worker that its dispatch may no longer write: the
	// instance was cleared, marked, requeued or given to a newer dispatch.
	ErrSuperseded = errors.New("dispatch superseded")
)

// Problem is one thing that is wrong with some input.
type Problem struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`   // 1-based, 0 = unknown
	Column   int    `json:"column,omitempty"` // 1-based, 0 = unknown
	Field    string `json:"field,omitempty"`  // path such as my_dag.tasks.a.retries
	Message  string `json:"message"`          // what is wrong, what was expected, what to do
	Class    string `json:"class,omitempty"`  // Airflow's exception class, where it has one
	Severity string `json:"severity,omitempty"`
}

// String returns file:line:column: field: message.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, "%d:", p.Column)
		}
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Field != "" {
		b.WriteString(p.Field)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// InvalidError carries every problem of one input at once.
type InvalidError struct{ Problems []Problem }

// Error returns one line per problem.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Invalid returns an InvalidError with one problem.
func Invalid(field, format string, args ...any) error {
	return &InvalidError{Problems: []Problem{{Field: field, Message: fmt.Sprintf(format, args...)}}}
}
