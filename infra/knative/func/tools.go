//go:build tools

// Package tools pins the func CLI, which go install cannot build by itself: its go.mod has replacements.
package tools

import _ "knative.dev/func/cmd/func"
