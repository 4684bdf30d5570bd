// Command dagparser is the Lambda function that parses DAG files for the function
// dagprocessor. Its role may read the bucket of DAG files and nothing else: what a
// DAG file makes it do gains nothing. It lies in the zip of a python3.13 function
// and is started through AWS_LAMBDA_EXEC_WRAPPER, to have an interpreter that looks
// at the Python files which DAG files refer to.
package main

import "github.com/gustflow/gust/internal/lambdaentry/parserfn"

func main() { parserfn.Run() }
