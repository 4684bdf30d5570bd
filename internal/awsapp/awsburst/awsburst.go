// Package awsburst invokes worker functions asynchronously, for bursts of
// dispatches. It is a package of its own so that only schedulers carry its client.
package awsburst

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/gustflow/gust/internal/awsapp"
)

// Enable lets an app's lambda executor invoke the functions of
// awsapp.Config.WorkerFunctions. Call it before the executor is made.
func Enable(a *awsapp.App) {
	client := sync.OnceValue(func() *lambda.Client { return lambda.NewFromConfig(a.AWS()) })
	a.Invoke = func(ctx context.Context, function string, payload []byte) error {
		_, err := client().Invoke(ctx, &lambda.InvokeInput{FunctionName: &function, InvocationType: types.InvocationTypeEvent, Payload: payload})
		return err
	}
}
