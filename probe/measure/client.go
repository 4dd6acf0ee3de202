package measure

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"slices"
	"strconv"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/internal/wire"
	"example.com/authtrip/login"
)

const authBasic = "client_secret_basic"

// A method is one way in which the client can say who it is.
type method struct {
	name string
	raw  bool
}

func (m method) String() string {
	if m.raw {
		return m.name + ", not form-encoded"
	}
	return m.name
}

// methods are those that the client has what it needs for.
func (r *run) methods() (all []method) {
	c := r.Client
	if c.AuthMethod != "" {
		return []method{{c.AuthMethod, c.RawBasic}}
	}
	if c.Key != nil || c.AssertionFunc != nil {
		all = append(all, method{"private_key_jwt", false})
	}
	if c.Secret != "" {
		all = append(all, method{authBasic, false})
		if url.QueryEscape(c.ID) != c.ID || url.QueryEscape(c.Secret) != c.Secret {
			all = append(all, method{authBasic, true})
		}
		all = append(all, method{"client_secret_post", false})
		if len(c.Secret) >= 32 && slices.Contains(r.meta.TokenEndpointAuthMethods, "client_secret_jwt") {
			all = append(all, method{"client_secret_jwt", false})
		}
	}
	if all == nil {
		all = []method{{"none", false}}
	}
	return all
}

// with returns the client with another method.
func (r *run) with(m method) *login.Client {
	c := *r.client
	c.AuthMethod, c.RawBasic = m.name, m.raw
	return &c
}

// tryMethods finds which authentication works, without a session: the grant is a refresh
// token that is made up, which a server looks at after it knows the client. What it answers to a
// wrong secret tells whether it does.
func (r *run) tryMethods(ctx context.Context) {
	all := r.methods()
	if !r.may(ctx, steps.client) {
		return
	}
	r.say("client: trying %d ways to authenticate", len(all))
	for i, m := range all {
		if m.raw && r.report.Client.Methods[i-1].Works == Yes {
			r.report.Client.Methods = append(r.report.Client.Methods, MethodFact{Method: m.String()})
			continue // as it should be
		}
		reply, rejected := r.authenticate(ctx, r.with(m))
		fact := MethodFact{Method: m.String(), Reply: reply}
		if reply != "" {
			fact.Works = answer(!rejected)
		}
		r.compare(ctx, m, &fact)
		r.report.Client.Methods = append(r.report.Client.Methods, fact)
		listed := slices.Contains(r.offered(), m.name)
		if fact.Works == Yes && !listed && m.name != "none" {
			r.report.silent("token_endpoint_auth_methods_supported", m.name+" works")
		}
	}
	r.choose(all)
}

func (r *run) offered() []string {
	if r.meta.TokenEndpointAuthMethods == nil {
		return []string{authBasic} // RFC 8414, section 2
	}
	return r.meta.TokenEndpointAuthMethods
}

// compare takes back what a wrong secret has as well.
func (r *run) compare(ctx context.Context, m method, fact *MethodFact) {
	if fact.Works != Yes || r.Client.Secret == "" || r.report.Client.Checked == Yes {
		return
	}
	wrong := *r.with(m)
	wrong.Secret = rand.Text() + rand.Text()
	reply, rejected := r.authenticate(ctx, &wrong)
	if reply == "" {
		return
	}
	r.report.Client.Checked = answer(rejected)
	if !rejected {
		fact.Works = ""
		r.report.missing("client authentication: "+m.name, "a wrong secret gets the same answer: "+reply)
	}
}

// authenticate returns the answer to one request, "" if there was none, and whether the client
// was rejected.
func (r *run) authenticate(ctx context.Context, c *login.Client) (reply string, rejected bool) {
	var err error
	if r.grantType() == "client_credentials" {
		_, err = c.ClientCredentials(r.tokenRequest()).Refresh(ctx, nil)
	} else {
		_, err = c.RefreshToken().Refresh(ctx, &oauth2.Token{RefreshToken: rand.Text() + rand.Text()})
	}
	if err == nil {
		return "200", false
	}
	status, code := said(err)
	if status < 200 || status >= 500 || status == 429 {
		return "", false
	}
	return replyOf(err), code == "invalid_client" || status == 401
}

func (r *run) tokenRequest() *login.TokenRequest {
	return &login.TokenRequest{Scopes: r.scopes()}
}

// choose takes for the rest of the run a method that works: what the metadata lists first.
func (r *run) choose(all []method) {
	best := -1
	for i, m := range all {
		if r.report.Client.Methods[i].Works != Yes {
			continue
		}
		if best < 0 || !slices.Contains(r.offered(), all[best].name) && slices.Contains(r.offered(), m.name) {
			best = i
		}
	}
	if best < 0 {
		r.report.missing("client authentication", "no method was told to work: the one that the metadata implies is used")
		return
	}
	r.client = r.with(all[best])
	r.report.Client.Works, r.report.Client.RawBasic = all[best].name, all[best].raw
}

// said returns the status and the error code of an answer, 0 if there was none.
func said(err error) (status int, code string) {
	if re, ok := errors.AsType[*authtrip.RefreshError](err); ok {
		return re.StatusCode, re.Code
	}
	if ee, ok := errors.AsType[*login.EndpointError](err); ok {
		return ee.StatusCode, ee.Code
	}
	return 0, ""
}

// replyOf is an answer in a few words.
func replyOf(err error) string {
	status, code := said(err)
	switch {
	case err == nil:
		return "accepted"
	case status == 0:
		return err.Error()
	case code == "":
		return strconv.Itoa(status)
	}
	return strconv.Itoa(status) + " " + wire.Code(code)
}

// rejected reports whether the server has said no, as opposed to nothing that counts.
func rejected(err error) bool {
	status, _ := said(err)
	return status == 200 || status >= 400 && status < 500 && status != 408 && status != 429
}
