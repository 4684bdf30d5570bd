//go:build !aws

package main

import "github.com/gustflow/gust/internal/cli"

func withAWS(*cli.Env) {}
