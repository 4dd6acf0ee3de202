package main

import (
	"errors"
	"flag"
	"fmt"

	"example.com/authtrip"
)

// The exit codes. A script can tell by them what to do next.
const (
	exitOK          = 0
	exitFailed      = 1   // try again later, or repair what the line names
	exitUsage       = 2   // the command line, or the configuration
	exitLogin       = 4   // log in, and try again
	exitHTTP        = 22  // the API answered with an error; curl -f ends so
	exitInterrupted = 130 // Ctrl-C, as shells count it
)

var errInterrupted = errors.New("interrupted")

// A mistake is something that the caller of the program has to change.
type mistake struct{ text string }

func (m mistake) Error() string { return m.text }

func usageError(format string, args ...any) error { return mistake{fmt.Sprintf(format, args...)} }

// A statusError is the API's answer that it will not.
type statusError struct {
	status string
	reason error // why a refused token was not replaced, if it was refused
}

func (e statusError) Error() string {
	if e.reason != nil {
		return "the API answered " + e.status + ": " + e.reason.Error()
	}
	return "the API answered " + e.status
}

// Unwrap returns the reason.
func (e statusError) Unwrap() error { return e.reason }

// advice returns the line that says what to do about an error, and the exit
// code. No error of authtrip or its login package holds a token, a code or a
// secret, so they can be printed as they are.
func advice(err error) (line string, code int) {
	_, wrong := errors.AsType[mistake](err)
	_, refused := errors.AsType[statusError](err)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return "", exitOK
	case errors.Is(err, errInterrupted):
		return "interrupted", exitInterrupted
	case wrong:
		return err.Error(), exitUsage
	case errors.Is(err, authtrip.ErrReauthRequired):
		return "not logged in: run `cli login`", exitLogin
	case errors.Is(err, authtrip.ErrNotSaved):
		// The new token ends with this process, and the old one has been spent.
		return fmt.Sprintf("%v: make room or repair the directory, then run `cli login`", err), exitFailed
	case errors.Is(err, authtrip.ErrInDoubt):
		return fmt.Sprintf("%v: try again in a few seconds", err), exitFailed
	case refused:
		return err.Error(), exitHTTP
	}
	return err.Error(), exitFailed
}
