// Lets Python `import` the library; its ops register themselves when it is loaded.
#include <Python.h>

#define HPVOD_CONCATENATE_(a, b) a##b
#define HPVOD_CONCATENATE(a, b) HPVOD_CONCATENATE_(a, b)
#define HPVOD_STRINGIZE_(a) #a
#define HPVOD_STRINGIZE(a) HPVOD_STRINGIZE_(a)

PyMODINIT_FUNC HPVOD_CONCATENATE(PyInit_, HPVOD_MODULE_NAME)(void) {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                   HPVOD_STRINGIZE(HPVOD_MODULE_NAME),
                                   nullptr,
                                   -1,
                                   nullptr,
                                   nullptr,
                                   nullptr,
                                   nullptr,
                                   nullptr};
  return PyModule_Create(&definition);
}
