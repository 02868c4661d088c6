"""
PyMySQL under the name of the driver that Django imports. That one, mysqlclient, has no wheels for Linux: it would need
a compiler and MariaDB's headers.
"""

import pymysql

pymysql.version_info = (2, 2, 7, "final", 0)  # Django asks for mysqlclient 2.2.1 or newer
pymysql.install_as_MySQLdb()  # the import gives PyMySQL instead of this module
