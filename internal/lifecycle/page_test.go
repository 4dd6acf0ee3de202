package lifecycle

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

var factNames = map[string][]string{
	"Stored":  {"not asked", "record", "nothing", "tombstone", "unreadable", "no answer"},
	"Order":   {"same", "older", "newer"},
	"Marker":  {"none", "ready", "ready again", "answered", "used", "other's, recent", "other's, old"},
	"Token":   {"none", "fresh", "due", "over"},
	"Lease":   {"not taken", "mine", "theirs"},
	"Grace":   {"closed", "open", "never"},
	"Care":    {"careful", "the Store may fail", "free"},
	"Newest":  {"settled", "held", "loose"},
	"End":     {"alive", "refused", "ended", "logged out"},
	"Waiting": {"no", "yes"},
	"Look":    {"no", "yes"},
}

var pageSteps = [...]string{
	Serve: "serve", Load: "load", Publish: "publish", Save: "save", TakeLease: "take the lease", Wait: "wait",
	Mark: "mark", Send: "send", Rest: "rest", EndSession: "end",
}

// conditions tells what a row asks for.
func conditions(row Row) string {
	var all []string
	v := reflect.ValueOf(row)
	for n := range v.NumField() {
		field := v.Type().Field(n).Name
		names := factNames[field]
		if names == nil || v.Field(n).Uint() == 0 {
			continue
		}
		var values []string
		for i, name := range names {
			if v.Field(n).Uint()&(1<<i) != 0 {
				values = append(values, name)
			}
		}
		all = append(all, field+": "+strings.Join(values, " or "))
	}
	if all == nil {
		return "otherwise"
	}
	return strings.Join(all, "; ")
}

func TestTheTableIsInTheProtocol(t *testing.T) {
	var page strings.Builder
	page.WriteString("| row | when | step |\n|---|---|---|\n")
	for _, row := range Table {
		fmt.Fprintf(&page, "| %s | %s | %s |\n", row.Name, conditions(row), pageSteps[row.Step])
	}
	holdPage(t, "table", page.String())
}
