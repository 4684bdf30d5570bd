package dynamokv

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/store/kv"
)

// class is what an error of one request means for the next one.
type class uint8

const (
	final   class = iota // the answer: repeating changes nothing
	waiting              // certainly not done, and may be later
	unsent               // the request never left: as good as not tried
	unknown              // may have been done
)

// explain returns the kv error that the error of a request means, and its class. Conditions and cancelled transactions
// are left to the caller, who knows the operation.
func (s *Store) explain(err error) (class, error) {
	var api smithy.APIError
	if !errors.As(err, &api) {
		var dial *net.OpError
		var dns *net.DNSError
		if errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &dns) {
			return unsent, fmt.Errorf("%w: no connection: %w", kv.ErrUnavailable, err)
		}
		return unknown, fmt.Errorf("%w: no answer: %w", kv.ErrUnavailable, err)
	}
	code, msg := api.ErrorCode(), api.ErrorMessage()
	// The client's list of throttling has this code, too; but it is an earlier try of ours, which may succeed.
	if code == "TransactionInProgressException" {
		return unknown, fmt.Errorf("%w: %s", kv.ErrUnavailable, msg)
	}
	if _, throttled := retry.DefaultThrottleErrorCodes[code]; throttled {
		return waiting, fmt.Errorf("%w: %s: %s", kv.ErrThrottled, code, msg)
	}
	switch code {
	case "TransactionConflictException":
		return waiting, fmt.Errorf("%w: %s", kv.ErrTransactionConflict, msg)
	case "ReplicatedWriteConflictException":
		return waiting, fmt.Errorf("%w: %s", kv.ErrThrottled, msg)
	case "ConditionalCheckFailedException", "TransactionCanceledException":
		return final, err
	case "IdempotentParameterMismatchException":
		return final, fmt.Errorf("%w: the token was used for other operations less than %d minutes ago; make it from the operations (%s)",
			kv.ErrInvalid, kv.TokenMinutes, msg)
	case "ValidationException", "SerializationException":
		return final, refused(msg)
	case "RequestEntityTooLargeException":
		return final, fmt.Errorf("%w: %s", kv.ErrTooLarge, msg)
	case "ResourceNotFoundException":
		return final, fmt.Errorf("%w: table %q is not there; check its name, the region and the account, or deploy the stack (%s)", kv.ErrUnavailable, s.table, msg)
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		switch status := resp.HTTPStatusCode(); {
		case status == 413:
			return final, fmt.Errorf("%w: %w", kv.ErrTooLarge, err)
		case status == 429:
			return waiting, fmt.Errorf("%w: %w", kv.ErrThrottled, err)
		case status < 500: // no access, credentials expired, clock wrong
			return final, fmt.Errorf("%w: table %q refused the request: %w", kv.ErrUnavailable, s.table, err)
		}
	}
	return unknown, fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
}

// refused tells a request that is too large from one that is wrong: the service has one code for both.
func refused(msg string) error {
	m := strings.ToLower(msg)
	if strings.Contains(m, "size") && (strings.Contains(m, "exceed") || strings.Contains(m, "maximum allowed")) {
		return fmt.Errorf("%w: %s", kv.ErrTooLarge, msg)
	}
	return fmt.Errorf("%w: %s", kv.ErrInvalid, msg)
}

// conditionFailed returns the error of an operation, the i-th of its transaction, whose condition or guard the service
// found false on the item.
func (s *Store) conditionFailed(i int, op kv.Op, old attrs) error {
	var cur *kv.Item
	if len(old) > 0 {
		it, err := s.decodeItem(old, "")
		if err != nil {
			return err
		}
		cur = &it
	}
	if op.Cond.Holds(cur) { // then it was the guard of an addition
		if _, err := op.Apply(cur); err != nil {
			return err
		}
	}
	return kv.FailCondition(i, op.ItemKey(), cur)
}

// cancelled returns the error of a cancelled transaction and its class. A condition that failed anywhere decides: the
// transaction cannot succeed as things are. Otherwise whoever was in the way may be gone next time.
func (s *Store) cancelled(ops []kv.Op, err *types.TransactionCanceledException) (class, error) {
	var passing error
	for i, r := range err.CancellationReasons {
		if r.Code == nil || *r.Code == "None" || i >= len(ops) {
			continue
		}
		msg := ""
		if r.Message != nil {
			msg = *r.Message
		}
		fail := func(err error) error { return &kv.CancelError{Op: i, Key: ops[i].ItemKey(), Err: err} }
		switch *r.Code {
		case "ConditionalCheckFailed":
			return final, fail(s.conditionFailed(i, ops[i], r.Item))
		case "ValidationError":
			return final, fail(refused(msg))
		case "ItemCollectionSizeLimitExceeded":
			return final, fail(fmt.Errorf("%w: %s", kv.ErrTooLarge, msg))
		case "TransactionConflict":
			if passing == nil {
				passing = fail(fmt.Errorf("%w: %s", kv.ErrTransactionConflict, msg))
			}
		default: // ProvisionedThroughputExceeded, ThrottlingError
			if passing == nil {
				passing = fail(fmt.Errorf("%w: %s: %s", kv.ErrThrottled, *r.Code, msg))
			}
		}
	}
	if passing == nil {
		passing = fmt.Errorf("%w: cancelled for no reason given: %w", kv.ErrTransactionConflict, err)
	}
	return waiting, passing
}

// doubtful is the error of a single write that was repeated after a try whose outcome is unknown. It is that unknown
// outcome; a failed condition seen since stays visible to errors.As, but is no proof that nothing was applied.
type doubtful struct {
	cause  error // wraps kv.ErrUnavailable
	failed *kv.ConditionFailedError
}

func (e *doubtful) Error() string {
	if e.failed == nil {
		return e.cause.Error()
	}
	return e.cause.Error() + "; since then: " + e.failed.Error()
}

func (e *doubtful) Unwrap() error { return e.cause }

// As implements the contract of errors.As.
func (e *doubtful) As(target any) bool {
	p, ok := target.(**kv.ConditionFailedError)
	if !ok || e.failed == nil {
		return false
	}
	*p = e.failed
	return true
}
