package dynamokv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/gustflow/gust/internal/store/kv"
)

// Delays between tries: the n-th is drawn from zero to firstDelay doubled n times, at most lastDelay.
const (
	firstDelay = 25 * time.Millisecond
	lastDelay  = time.Second
)

// plain turns the client's own retries off.
func plain(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

// once makes one request, f, and returns its error as explain does.
func (s *Store) once(ctx context.Context, f func(context.Context) error) (class, error) {
	try, cancel := context.WithTimeout(ctx, s.opts.AttemptTimeout)
	defer cancel()
	err := f(try)
	if err == nil {
		return final, nil
	}
	if ended := ctx.Err(); ended != nil {
		return final, fmt.Errorf("%w: %w", kv.ErrUnavailable, errors.Join(ended, err))
	}
	return s.explain(err)
}

// repeat makes a request until its outcome is known, or is not worth waiting for. again is whether it may be repeated
// although an earlier try may have been done. doubt is the error of such a try, nil when there was none.
func (s *Store) repeat(ctx context.Context, again bool, f func(context.Context) (class, error)) (doubt, err error) {
	for attempt := 1; ; attempt++ {
		var c class
		c, err = f(ctx)
		if c == unknown {
			doubt = err
		}
		if err == nil || c == final || c == unknown && !again || attempt >= s.opts.Attempts {
			return doubt, err
		}
		if ended := s.pause(ctx, attempt); ended != nil {
			return doubt, fmt.Errorf("%w; %w while waiting to try again", err, ended)
		}
	}
}

// pause waits before the next try.
func (s *Store) pause(ctx context.Context, attempt int) error {
	limit := min(firstDelay<<min(attempt-1, 10), lastDelay)
	return s.opts.Sleep(ctx, rand.N(limit)+time.Millisecond)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
