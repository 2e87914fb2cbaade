// Package lines has what every probe does: an answer line for each line of stdin, or its client's version.
package lines

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

// FetchText returns the object's text.
type FetchText func() (string, error)

// Target is what S3 a probe reads, and what of it.
type Target struct{ Endpoint, Bucket, Key string }

// ReadTarget returns what the environment says.
func ReadTarget() Target {
	return Target{os.Getenv("S3_ENDPOINT"), os.Getenv("S3_BUCKET"), os.Getenv("S3_KEY")}
}

// Answer prints `ok BODY` or `error TEXT` for each line of stdin; with --version, the module's version.
//
// makeClient is called for the first line, and again only for as long as it fails.
func Answer(module string, makeClient func() (FetchText, error)) {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Println(module, version(module))
		return
	}
	answers := os.Stdout
	os.Stdout = os.Stderr // the SDK's version 1 logs to stdout
	var fetch FetchText
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		var text string
		var err error
		if fetch == nil {
			fetch, err = makeClient()
		}
		if err == nil {
			text, err = fetch()
		}
		if err != nil {
			fmt.Fprintln(answers, "error", strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Fprintln(answers, "ok", text)
		}
	}
}

func version(module string) string {
	build, _ := debug.ReadBuildInfo()
	for _, dependency := range build.Deps {
		if dependency.Path == module {
			return dependency.Version
		}
	}
	return "of unknown version"
}
