package main

import (
	"strings"
	"testing"
)

func TestSecondStartNeedsNoBrowser(t *testing.T) {
	var out strings.Builder
	if err := demo(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	want := `first start
  the browser is asked for: openid notes:read offline_access
tool read: reads the notes
tool write: writes a note
read: there are no notes
  the browser is asked for: openid notes:read offline_access notes:write
write: it is written
second start
tool read: reads the notes
tool write: writes a note
read: there are no notes
write: it is written
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}
