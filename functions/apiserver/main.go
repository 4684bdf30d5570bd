// Command apiserver is the Lambda function that serves HTTP through a Function URL:
// the REST API behind sign-in.
package main

import "github.com/gustflow/gust/internal/lambdaentry/apifn"

func main() { apifn.Run() }
