package awsapp

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// ClientConfig is what clients of functions are made from that are no part of an
// App: region, credentials and connections of this process.
func ClientConfig(ctx context.Context) (aws.Config, error) { return awsConfig(ctx, nil) }
