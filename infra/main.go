// Command infra is the CDK app of Gust: `cdk synth`, `cdk diff` and `cdk deploy`
// run it through cdk.json. What to deploy comes from the CDK context (-c stage=…,
// see package settings), the functions from dist/, which `make lambdas` fills.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/gustflow/gust/infra/settings"
	"github.com/gustflow/gust/infra/stacks"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "gust infra: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	defer jsii.Close()
	root, err := projectRoot()
	if err != nil {
		return err
	}
	app := stacks.NewApp("")
	cfg, err := load(app, root)
	if err != nil {
		return fmt.Errorf("the configuration cannot be used:\n%w", err)
	}
	dist := filepath.Join(root, "dist")
	if err := stacks.CheckDist(dist); err != nil {
		return err
	}
	data := stacks.NewData(app, cfg)
	stacks.NewControl(app, cfg, data, dist)
	app.Synth(nil)
	return nil
}

// load reads the CDK context and the file that its key "config" names.
func load(scope constructs.Construct, root string) (settings.Config, error) {
	context := map[string]string{}
	for _, key := range settings.ContextKeys {
		switch v := scope.Node().TryGetContext(jsii.String(key)).(type) {
		case nil:
		case string:
			context[key] = v
		default:
			return settings.Config{}, fmt.Errorf("context %s: expected text, got %v", key, v)
		}
	}
	var file []byte
	if name := context["config"]; name != "" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(root, name)
		}
		var err error
		if file, err = os.ReadFile(name); err != nil {
			return settings.Config{}, fmt.Errorf("context config: %w", err)
		}
	}
	return settings.Load(context, file, os.Getenv("CDK_DEFAULT_ACCOUNT"), os.Getenv("CDK_DEFAULT_REGION"))
}

// projectRoot finds the folder of cdk.json: the CDK starts the app there, `go -C
// infra run .` one below.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "cdk.json")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no cdk.json in %s or above: run from the project", dir)
		}
	}
}
