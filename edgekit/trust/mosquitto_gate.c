/* A plugin for mosquitto 2.0: only MQTT 5 may connect, and only topics of state may be retained.

   Over MQTT 3.1.1 a message that the rules refuse looks accepted to its sender, and mosquitto before 2.1 has no
   option that keeps 3.1.1 out. Neither headers nor a C library are needed: the declarations below are the part of
   mosquitto's plugin interface, version 5, that is used. Everything else is left to the next plugin. */

enum { ACL_CHECK = 2, BASIC_AUTH = 3 };
enum { ACCESS_WRITE = 2 };
enum { SUCCESS = 0, REFUSED = 11, DENIED = 12, NEXT_PLUGIN = 17 };

struct option { char *key; char *value; };
struct basic_auth { void *future; void *client; };
struct acl_check {
  void *future; void *client; const char *topic; const void *payload; void *properties;
  int access; unsigned int payload_length; unsigned char qos; _Bool retain;
};

int mosquitto_client_protocol_version(const void *client);
int mosquitto_callback_register(void *id, int event, int (*call)(int, void *, void *), const void *data, void *user);

/* Last levels of topics that may be retained: "ack desired status", each followed by a space. */
static char retained[256];

static int connecting(int event, void *data, void *user) {
  (void)event; (void)user;
  return mosquitto_client_protocol_version(((struct basic_auth *)data)->client) < 5 ? REFUSED : NEXT_PLUGIN;
}

static int is_state(const char *topic) {
  const char *last = topic, *word = retained;
  for (const char *c = topic; *c; c++) if (*c == '/') last = c + 1;
  while (*word) {
    const char *a = last, *b = word;
    while (*a && *a == *b) a++, b++;
    if (!*a && *b == ' ' && b != word) return 1;
    while (*word && *word != ' ') word++;
    if (*word) word++;
  }
  return 0;
}

static int sending(int event, void *data, void *user) {
  const struct acl_check *check = data;
  (void)event; (void)user;
  return check->access == ACCESS_WRITE && check->retain && !is_state(check->topic) ? DENIED : NEXT_PLUGIN;
}

int mosquitto_plugin_version(int count, const int *versions) {
  for (int i = 0; i < count; i++) if (versions[i] == 5) return 5;
  return -1;
}

int mosquitto_plugin_init(void *id, void **user, struct option *options, int count) {
  unsigned int used = 0;
  (void)user;
  for (int i = 0; i < count; i++) {
    if (options[i].key[0] != 's') continue; /* "state", given once for each name */
    for (const char *c = options[i].value; *c && used + 2 < sizeof retained; c++) retained[used++] = *c;
    retained[used++] = ' ';
  }
  int failed = mosquitto_callback_register(id, BASIC_AUTH, connecting, 0, 0);
  return failed ? failed : mosquitto_callback_register(id, ACL_CHECK, sending, 0, 0);
}

int mosquitto_plugin_cleanup(void *user, struct option *options, int count) {
  (void)user; (void)options; (void)count;
  return SUCCESS;
}
