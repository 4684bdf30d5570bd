// Package awstest gives tests of AWS adapters the endpoint that GUST_AWS_ENDPOINT
// names: LocalStack, or whatever answers as it does.
package awstest

import (
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// EndpointVariable names the endpoint, such as http://127.0.0.1:4566.
const EndpointVariable = "GUST_AWS_ENDPOINT"

// Config returns a configuration for the endpoint, or skips the test where there
// is none.
func Config(t testing.TB) aws.Config {
	t.Helper()
	endpoint := os.Getenv(EndpointVariable)
	if endpoint == "" {
		t.Skipf("needs AWS services: set %s to a LocalStack endpoint (make localstack)", EndpointVariable)
	}
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		Retryer: func() aws.Retryer { return retry.AddWithMaxBackoffDelay(retry.NewStandard(), time.Second) },
	}
}
