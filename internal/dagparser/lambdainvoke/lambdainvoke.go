// Package lambdainvoke asks a parser that is a Lambda function.
package lambdainvoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagparser"
)

// API is what is used of the SDK's client.
type API interface {
	Invoke(context.Context, *lambda.InvokeInput, ...func(*lambda.Options)) (*lambda.InvokeOutput, error)
}

// Invoker is a dagparser.Invoker.
type Invoker struct {
	api      API
	function string
}

var _ dagparser.Invoker = (*Invoker)(nil)

// New returns an invoker of a function.
func New(api API, function string) *Invoker { return &Invoker{api, function} }

// Invoke implements dagparser.Invoker.
func (i *Invoker) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	out, err := i.api.Invoke(ctx, &lambda.InvokeInput{FunctionName: &i.function, InvocationType: types.InvocationTypeRequestResponse, Payload: payload})
	if err != nil {
		return nil, fmt.Errorf("invoke %s: %w", i.function, translate(err))
	}
	if out.FunctionError == nil {
		return out.Payload, nil
	}
	c := &dagparser.Crash{Type: aws.ToString(out.FunctionError)}
	var detail struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(out.Payload, &detail) == nil {
		c.Message = detail.Message
		if detail.Type != "" {
			c.Type = detail.Type
		}
	}
	return nil, c
}

func translate(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var large *types.RequestTooLargeException
	if errors.As(err, &large) {
		return &dagparser.Crash{Type: "RequestTooLarge", Message: err.Error()}
	}
	n := 0
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) {
		n = re.HTTPStatusCode()
	}
	switch {
	case n == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", airflow.ErrThrottled, err)
	case n == http.StatusForbidden:
		return fmt.Errorf("%w: %w", airflow.ErrNotAllowed, err)
	case n == http.StatusNotFound:
		return fmt.Errorf("%w: %w", airflow.ErrNotFound, err)
	case n >= 500, n == 0:
		return fmt.Errorf("%w: %w", airflow.ErrUnavailable, err)
	}
	return err
}
