package cli

import "github.com/spf13/cobra"

func (c *command) explainCommands() []*cobra.Command { return nil }
