package cli

import "github.com/spf13/cobra"

func (c *command) tasksCommands() []*cobra.Command { return nil }
