// Package awsgeneral finds region and credentials as the AWS CLI does: environment,
// files, roles, metadata services. It is for processes outside of Lambda; functions
// must not carry it.
package awsgeneral

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Load implements awsapp.Load.
func Load(ctx context.Context, client *awshttp.BuildableClient) (aws.Config, error) {
	return config.LoadDefaultConfig(ctx, config.WithHTTPClient(client))
}
