package taskrunner

import (
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/worker"
)

// Operators end a dispatch other than with success or an ordinary failure by
// returning one of these errors; any other error is a failure that may be retried.

// SkipError ends the task as skipped (AirflowSkipException).
type SkipError struct{ Message string }

// Error returns the message.
func (e *SkipError) Error() string { return e.Message }

// FailError fails the task without a retry (AirflowFailException).
type FailError struct {
	Message string
	Cause   error
}

// Error returns the message and its cause.
func (e *FailError) Error() string {
	switch {
	case e.Cause == nil:
		return e.Message
	case e.Message == "":
		return e.Cause.Error()
	}
	return e.Message + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *FailError) Unwrap() error { return e.Cause }

// Failf makes a FailError.
func Failf(format string, args ...any) error {
	return &FailError{Message: fmt.Sprintf(format, args...)}
}

// SensorTimeout is a sensor that waited too long: no retry (AirflowSensorTimeout).
type SensorTimeout struct{ Message string }

// Error returns the message.
func (e *SensorTimeout) Error() string { return e.Message }

// TaskTimeout is execution_timeout; an ordinary failure (AirflowTaskTimeout).
type TaskTimeout struct{ After time.Duration }

// Error says which limit passed.
func (e *TaskTimeout) Error() string {
	return fmt.Sprintf("the task ran longer than its execution_timeout of %v", e.After)
}

// Reschedule gives the worker back until At (AirflowRescheduleException).
type Reschedule struct{ At time.Time }

// Error says when the task runs again.
func (e *Reschedule) Error() string { return "rescheduled to " + e.At.UTC().Format(time.RFC3339Nano) }

// Deferred gives the worker back until a trigger fires (TaskDeferred).
type Deferred struct{ worker.Deferral }

// Error names the trigger.
func (e *Deferred) Error() string {
	return "deferred until trigger " + string(e.Trigger.Kind) + " fires"
}

// PythonError is an exception of the user's code.
type PythonError struct {
	Class, Message string
	Bases          []string
	Traceback      string
}

// Error returns class: message.
func (e *PythonError) Error() string {
	if e.Message == "" {
		return e.Class
	}
	return e.Class + ": " + e.Message
}

// errLostLease stops a task whose heartbeats could not be delivered.
var errLostLease = errors.New("the control plane could not be reached for several heartbeats, so the task's lease is lost")

// errorClass is the Python exception class that callbacks see for err.
func errorClass(err error) string {
	var (
		py      *PythonError
		skip    *SkipError
		fail    *FailError
		sensor  *SensorTimeout
		timeout *TaskTimeout
	)
	switch {
	case errors.As(err, &py):
		return py.Class
	case errors.As(err, &skip):
		return "AirflowSkipException"
	case errors.As(err, &sensor):
		return "AirflowSensorTimeout"
	case errors.As(err, &timeout):
		return "AirflowTaskTimeout"
	case errors.As(err, &fail):
		return "AirflowFailException"
	}
	return "AirflowException"
}
