package cli

import "github.com/spf13/cobra"

func (c *command) backfillCommands() []*cobra.Command { return nil }
