package kv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// The errors of a [Driver]; test for them with errors.Is. Drivers wrap them with the operation and the key.
var (
	// ErrNotFound: Get found no item.
	ErrNotFound = errors.New("item not found")
	// ErrConditionFailed: the operation's condition does not hold; the error is a [*ConditionFailedError]. Not applied.
	ErrConditionFailed = errors.New("condition failed")
	// ErrInvalid: the request can never succeed (empty key, two operations on one item, reused token ...). Not applied.
	ErrInvalid = errors.New("invalid request")
	// ErrTooLarge: an item above 400 KB or a transaction above 4 MB. Not applied.
	ErrTooLarge = errors.New("too large")
	// ErrThrottled: the store is over capacity, or another process held the file for too long, and the driver's own
	// retries did not help. Not applied: try again later.
	ErrThrottled = errors.New("throttled")
	// ErrTransactionConflict: another transaction held one of the items for longer than the driver's own retries. Not
	// applied: try again.
	ErrTransactionConflict = errors.New("transaction conflict")
	// ErrUnavailable: the store did not answer or cannot work at the moment. The outcome of a write is unknown.
	ErrUnavailable = errors.New("store unavailable")
	// ErrDiskFull: an embedded store cannot grow. Also an [ErrUnavailable], but not applied.
	ErrDiskFull = fmt.Errorf("disk full: %w", ErrUnavailable)
	// ErrReadOnly: an embedded store cannot be written. Also an [ErrUnavailable], but not applied.
	ErrReadOnly = fmt.Errorf("read-only: %w", ErrUnavailable)
	// ErrClosed: the driver was closed. Not applied.
	ErrClosed = errors.New("store closed")
	// ErrCorrupt: stored bytes are not what this program wrote.
	ErrCorrupt = errors.New("store corrupt")
	// ErrNewerFormat: the store was written by a newer version of the program. Nothing was changed.
	ErrNewerFormat = errors.New("store written by a newer version")
)

// ConditionFailedError says that an operation's condition did not hold, and shows the item that it was tested on, so
// that the caller need not read it again.
type ConditionFailedError struct {
	// Op is the index of the operation in a Transact, 0 for a Write.
	Op  int
	Key Key
	// Item is the item as it was, nil when it does not exist. The caller owns it.
	Item *Item
}

// Error implements error.
func (e *ConditionFailedError) Error() string {
	if e.Item == nil {
		return ErrConditionFailed.Error() + " on " + e.Key.String() + ", which does not exist"
	}
	return ErrConditionFailed.Error() + " on " + e.Key.String()
}

// Is makes errors.Is(err, ErrConditionFailed) true.
func (e *ConditionFailedError) Is(target error) bool { return target == ErrConditionFailed }

// CancelError says why a Transact was not applied: the first operation, by index, that could not be done. Err is a
// [*ConditionFailedError], or wraps one of the other errors that prove the transaction was not applied.
type CancelError struct {
	Op  int
	Key Key
	Err error
}

// Error implements error.
func (e *CancelError) Error() string {
	return "transaction cancelled by operation " + strconv.Itoa(e.Op) + " on " + e.Key.String() + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *CancelError) Unwrap() error { return e.Err }

// NotApplied reports whether err, returned by Write or Transact, proves that nothing was applied. When it is false for
// a non-nil err the outcome is unknown.
func NotApplied(err error) bool {
	for _, e := range []error{ErrConditionFailed, ErrInvalid, ErrTooLarge, ErrThrottled, ErrTransactionConflict,
		ErrDiskFull, ErrReadOnly, ErrClosed, errNotStarted} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Retryable reports whether the same request may succeed later without any change.
func Retryable(err error) bool {
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrTransactionConflict) || errors.Is(err, ErrUnavailable)
}

var errNotStarted = errors.New("not started")

// NotStarted wraps the error of a context that ended before a driver began a write, so that [NotApplied] is true.
func NotStarted(err error) error { return notStartedError{err} }

type notStartedError struct{ err error }

func (e notStartedError) Error() string        { return "not started: " + e.err.Error() }
func (e notStartedError) Unwrap() error        { return e.err }
func (e notStartedError) Is(target error) bool { return target == errNotStarted }

// CheckContext returns nil while ctx is alive and otherwise its error as [NotStarted].
func CheckContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return NotStarted(err)
	}
	return nil
}

// Wrap adds the name of the driver's method and the key to err; nil stays nil.
func Wrap(method string, key Key, err error) error {
	if err == nil {
		return nil
	}
	if key.IsZero() {
		return fmt.Errorf("kv %s: %w", method, err)
	}
	return fmt.Errorf("kv %s %v: %w", method, key, err)
}

func tooLarge(op Op, n int) error {
	return fmt.Errorf("%w: item %v would have %d bytes, the limit is %d; move large content to the blob store",
		ErrTooLarge, op.ItemKey(), n, MaxItemBytes)
}

// FailCondition is how drivers report that the condition of the i-th operation does not hold on cur.
func FailCondition(i int, key Key, cur *Item) error {
	e := &ConditionFailedError{Op: i, Key: key}
	if cur != nil {
		it := cur.Clone()
		e.Item = &it
	}
	return e
}

// CheckReplay is how embedded drivers answer a transaction whose token they know: nil when it has the same operations.
func CheckReplay(token string, same bool) error {
	if !same {
		return invalidf("token %q was used for other operations less than %d minutes ago; make it from the operations", token, TokenMinutes)
	}
	return nil
}

// CheckTransactBytes reports a transaction whose resulting items have too many bytes together.
func CheckTransactBytes(n int) error {
	if n > MaxTransactBytes {
		return fmt.Errorf("%w: a transaction over items of %d bytes together, the limit is %d; split it", ErrTooLarge, n, MaxTransactBytes)
	}
	return nil
}
